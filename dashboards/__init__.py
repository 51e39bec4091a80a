"""Pages and dashboards as package data."""
