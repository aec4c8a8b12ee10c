"""Moves models that exist: into other files within a store, and from other places into one."""
