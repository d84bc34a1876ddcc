"""What `softprompt doctor` looks at, and what it repairs."""
