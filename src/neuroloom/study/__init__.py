"""Where recordings come from: simulated with ground truth, BIDS datasets, sheets, public archives."""
