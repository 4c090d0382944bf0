"""Support for the notebooks: checked exercises, and the demo."""
