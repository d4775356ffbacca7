; uses: floats.smt2
; The bias is a real number, added in float32 before the multiplication.
; Within reach: |r * multiplier| < 2^31, so that the conversion to an integer is defined.

; Weights with a scale for each channel: offset = fl(bias / fl(sx * sw)).
(define-fun requantise-fbgemm-per-channel ((acc Acc) (offset Float32) (multiplier Float32) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (pack (nearest-half-even (fp.mul RNE (fp.add RNE (to-float32 acc) offset) multiplier)) zero-point lo hi))

; Weights with one scale: inverse = fl(1 / fl(sx * sw)), and product and sum are rounded together.
(define-fun requantise-fbgemm-per-tensor
    ((acc Acc) (bias Float32) (inverse Float32) (multiplier Float32) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (pack (nearest-half-even (fp.mul RNE (fp.fma RNE bias inverse (to-float32 acc)) multiplier)) zero-point lo hi))
