; uses: q31.smt2
; Two roundings: half up in the high half of the product, then half away from zero in the right shift.
; Within reach: |acc| * 2^max(shift, 0) < 2^31, so that the kernel's 32-bit left shift does not overflow.
(define-fun requantise-q31-double ((acc Acc) (mantissa Acc) (shift Acc) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (clamp (bvadd (shift-half-away (high-half acc mantissa shift) (right shift)) (widen zero-point)) lo hi))
