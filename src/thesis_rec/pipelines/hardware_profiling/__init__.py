"""What every model costs on the present device: latency, throughput, memory."""
