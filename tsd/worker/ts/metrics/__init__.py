"""What handlers measure: names, units, kinds, and the store that holds the values."""
