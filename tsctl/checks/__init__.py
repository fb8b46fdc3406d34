"""What `tsctl doctor` checks: a file for each group; a check looks at a machine and finds."""
