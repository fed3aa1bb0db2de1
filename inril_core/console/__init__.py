"""The operator's page: who may look, who has control, what goes to and comes from a browser.

No ROS here: a node gives what it hears and does what the page asks. One page, no build step: `static/`.
"""
