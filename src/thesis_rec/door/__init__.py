"""What Kedro is told: how configuration is read and how runs are tracked."""
