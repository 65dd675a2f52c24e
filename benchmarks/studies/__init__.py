"""Studies that compare nothing with peers: of statistics, and of choices of our own."""
