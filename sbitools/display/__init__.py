"""What terminals, notebooks and figures show."""
