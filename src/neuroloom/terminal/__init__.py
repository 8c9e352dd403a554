"""What a run says in the terminal: stages while it goes on, failures as they come, and what came out at its end."""
