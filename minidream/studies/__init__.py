"""Every long run whose results are committed: its measurement, its command and its intervals."""
