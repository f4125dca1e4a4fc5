"""What Kedro is told: how configuration is read."""
