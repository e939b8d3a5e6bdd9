"""Numbers of the blendshapes that the program itself looks at, in MediaPipe's order of 52."""

NEUTRAL = 0
EYE_BLINK = (9, 10)  # left, right
EYE_LOOK = (11, 12, 13, 14, 15, 16, 17, 18)  # where the eyes look: down, in, out and up, left and right
JAW_OPEN = 25
