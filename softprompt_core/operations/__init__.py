"""What operators do beside lifecycles: compare versions, monitor champions, revalidate them on another base, look at all tasks,
sweep settings. Nothing here moves an alias."""
