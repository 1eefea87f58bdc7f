"""What every stage stands on: files, findings, records, the image store, the leak guard. No torch."""
