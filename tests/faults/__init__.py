"""A proxy that does to HTTP what networks and overloaded servers do, on command."""
