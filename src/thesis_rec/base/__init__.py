"""Small things that every room may use: errors, files, progress, sharding. None of them knows a room or Kedro."""
