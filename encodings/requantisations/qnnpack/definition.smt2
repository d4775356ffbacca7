; uses: floats.smt2
; One float32 product, rounded half to even; saturated to int16, plus the zero point, clamped.
; Within reach: |acc * multiplier| < 2^31, so that the conversion to an integer is defined.
(define-fun requantise-qnnpack ((acc Acc) (multiplier Float32) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (pack (nearest-half-even (fp.mul RNE (to-float32 acc) multiplier)) zero-point lo hi))
