"""How a run is shown: the state reduced from its events, the dashboard, log lines, the snapshot file."""
