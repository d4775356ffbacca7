; uses: integers.smt2
; The accumulator of x86 without VNNI (vpmaddubsw): raw u8 by raw s8 products are added in pairs and saturate to int16.
(define-fun saturating-pair ((x0 Acc) (w0 Acc) (x1 Acc) (w1 Acc)) Acc
  (clamp (bvadd (bvmul (widen x0) (widen w0)) (bvmul (widen x1) (widen w1))) (bvneg (_ bv32768 32)) (_ bv32767 32)))

; Four inputs, two pairs. The input's zero point is taken off at the end, from the sum of the weights, and does not saturate.
(define-fun saturating-pairs-4
    ((x0 Acc) (x1 Acc) (x2 Acc) (x3 Acc) (input-zero Acc) (w0 Acc) (w1 Acc) (w2 Acc) (w3 Acc) (bias Acc)) Acc
  (bvadd bias
    (bvsub
      (bvadd (saturating-pair x0 w0 x1 w1) (saturating-pair x2 w2 x3 w3))
      (bvmul input-zero (bvadd w0 (bvadd w1 (bvadd w2 w3)))))))
