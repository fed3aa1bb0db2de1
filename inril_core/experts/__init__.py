"""Who shows how a task is done (scripted, trained, of a chosen quality), and who decides when to take over."""
