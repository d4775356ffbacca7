; uses: q31.smt2
; Two roundings, both half up. Within reach: |acc| * 2^max(shift, 0) < 2^31.
(define-fun requantise-q31-half-up ((acc Acc) (mantissa Acc) (shift Acc) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (clamp (bvadd (shift-half-up (high-half acc mantissa shift) (right shift)) (widen zero-point)) lo hi))
