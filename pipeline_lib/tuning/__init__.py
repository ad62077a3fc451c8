"""Equal-budget tuning: which settings are tried, and which of them are chosen. Never imports torch."""
