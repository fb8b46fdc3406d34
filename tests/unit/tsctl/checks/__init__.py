"""The checks of tsctl doctor, on machines that are made up."""
