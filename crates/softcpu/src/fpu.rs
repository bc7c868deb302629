//! x87, MMX and SSE to SSE4.2, exact to the bit: the host carries out what it can.
