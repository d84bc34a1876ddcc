"""What MLflow shows of a lifecycle: its run, the curves while it trains, the gates' report, and the descriptions in words."""
