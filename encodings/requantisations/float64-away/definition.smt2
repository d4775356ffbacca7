; uses: floats.smt2
; One float64 product, rounded half away from zero, plus the zero point.
; Within reach: |acc * multiplier| < 2^31, so that the conversion to an integer is defined.
(define-fun requantise-float64-away ((acc Acc) (multiplier Float64) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (clamp (bvadd (widen (nearest-half-away (fp.mul RNE (to-float64 acc) multiplier))) (widen zero-point)) lo hi))
