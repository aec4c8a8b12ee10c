"""Whole commands in their own processes, against real places."""
