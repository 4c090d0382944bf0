"""What the notebooks of the course lean on: checked exercises, and the demo."""
