"""Health checks: faults of a study that are looked for without being asked, each with numbers and what to do."""
