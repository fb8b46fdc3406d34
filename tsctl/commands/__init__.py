"""A file for each verb of tsctl that needs one."""
