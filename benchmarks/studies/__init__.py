"""Statistical studies, which measure no time."""
