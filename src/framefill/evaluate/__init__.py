"""Fair figures: a named protocol, held-out clips, intervals, baselines, and a page that shows what was compared."""
