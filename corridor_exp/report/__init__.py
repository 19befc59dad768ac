"""The report: a folder of runs as one HTML page."""
