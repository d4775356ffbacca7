; uses: floats.smt2
; One float32 product, clamped while it is a float (so that a huge one saturates), rounded half to even, plus the zero point.
; The bounds minus the zero point are small integers, exact in float32, and so is what the rounding sees.
(define-fun requantise-float32-half-even ((acc Acc) (multiplier Float32) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (bvadd
    (nearest-half-even
      (clamp-float32 (fp.mul RNE (to-float32 acc) multiplier) (to-float32 (bvsub lo zero-point)) (to-float32 (bvsub hi zero-point))))
    zero-point))
