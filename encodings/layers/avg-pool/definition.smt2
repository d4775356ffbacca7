; uses: floats.smt2
; Two means of a 2x2 window.

; The integer one: a sum of centred values, for a requantisation whose multiplier divides by the count.
(define-fun window-sum-2x2 ((x00 Acc) (x01 Acc) (x10 Acc) (x11 Acc) (input-zero Acc)) Acc
  (bvadd (bvsub x00 input-zero) (bvadd (bvsub x01 input-zero) (bvadd (bvsub x10 input-zero) (bvsub x11 input-zero)))))

; ONNX Runtime's QLinearAveragePool: every step is rounded to float32, in the order in which it is written.
(define-fun dequantise ((x Acc) (zero-point Acc) (scale Float32)) Float32
  (fp.mul RNE (to-float32 (bvsub x zero-point)) scale))
(define-fun mean-finish ((sum Float32) (count Float32) (output-scale Float32) (output-zero Float32) (lo Acc) (hi Acc)) Acc
  (nearest-half-even
    (clamp-float32 (fp.add RNE (fp.div RNE (fp.div RNE sum count) output-scale) output-zero) (to-float32 lo) (to-float32 hi))))
(define-fun float-mean-2x2
    ((x00 Acc) (x01 Acc) (x10 Acc) (x11 Acc) (input-zero Acc) (input-scale Float32)
     (output-zero Float32) (output-scale Float32) (lo Acc) (hi Acc)) Acc
  (mean-finish
    (fp.add RNE
      (fp.add RNE
        (fp.add RNE (dequantise x00 input-zero input-scale) (dequantise x01 input-zero input-scale))
        (dequantise x10 input-zero input-scale))
      (dequantise x11 input-zero input-scale))
    (to-float32 (_ bv4 32)) output-scale output-zero lo hi))
