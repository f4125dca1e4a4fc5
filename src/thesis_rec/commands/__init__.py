"""Commands that the project adds to Kedro's, one module each."""
