"""The whole body from a few handles: skeletons, bodies, motion files, and solvers that meet what was pinned.

Inside, rotations are 3x3 matrices that turn column vectors, lengths are metres, angles radians, times seconds. A
rotation is local (relative to the parent joint) unless a name says global. The root's position is where the root joint
is in the world: no rest offset is added to it, unlike SMPL's `transl` (facts 001, section 3.2).
"""
