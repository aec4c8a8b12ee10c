"""Object stores that tests talk to over HTTP: started when the first test asks, stopped when the run ends."""
