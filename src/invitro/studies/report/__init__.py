"""The report of a study: tables, sentences, facts, and the page."""
