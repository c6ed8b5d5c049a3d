"""Health checks: problems that are looked for in every study, each with numbers and what to do."""
