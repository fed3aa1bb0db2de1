"""Measures of furniture-bench's square_table (Heo et al. 2023), for features, scenes and experts of its tasks.

Frames. `hole`: centre of a hole on the top's upper face, z up. `leg`: centre of the leg's block, z from the peg to the
block, so that it equals the hole's orientation when seated and not turned. The leg's `tip` is the middle of the peg's
end.
"""

LEG_TIP_M = (0.0, 0.0, -0.05625)  # in the leg's frame: half the block and the peg
LEG_GRASP_M = (0.0, 0.0, 0.0115)  # where the tool holds the leg, in the leg's frame
HOLE_RADIUS_M = 0.0125
