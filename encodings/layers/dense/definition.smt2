; uses: integers.smt2
; A dense layer before its requantisation: products of centred inputs and centred weights, summed modulo 2^32, plus the bias.

(define-fun product ((x Acc) (input-zero Acc) (w Acc) (weight-zero Acc)) Acc
  (bvmul (bvsub x input-zero) (bvsub w weight-zero)))

; One neuron over three inputs; a wider one has more products.
(define-fun dense-3 ((x0 Acc) (x1 Acc) (x2 Acc) (input-zero Acc) (w0 Acc) (w1 Acc) (w2 Acc) (weight-zero Acc) (bias Acc)) Acc
  (bvadd bias
    (bvadd (product x0 input-zero w0 weight-zero)
      (bvadd (product x1 input-zero w1 weight-zero)
        (product x2 input-zero w2 weight-zero)))))
