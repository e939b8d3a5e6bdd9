"""Numbers of the blendshapes that the program itself looks at, in MediaPipe's order of 52."""

EYE_BLINK = (9, 10)  # left, right
JAW_OPEN = 25
