"""Health checks: faults of a study that are looked for without being asked."""
