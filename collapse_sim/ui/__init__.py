"""What a person sees of a run: the reduction of its events, the dashboard, the lines, the snapshot."""
