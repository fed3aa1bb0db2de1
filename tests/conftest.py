"""No test looks at a clock: what hypothesis allows an example to take must not depend on who else uses the machine. And
every test talks over DDS as the graph does."""

from hypothesis import settings
from inril_bringup.environment import use_dds_of_the_graph

settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")
use_dds_of_the_graph()
