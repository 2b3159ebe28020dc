"""Seq2seq in the manner of 2021: one training model, then its layers picked out by index for the two that infer."""

import keras
import numpy as np

from tests.ported.start import start

numbers = np.random.default_rng(44)
num_tokens, latent_dim, length = 7, 12, 5
source = numbers.integers(2, num_tokens, (32, length))
encoder_input_data = np.eye(num_tokens, dtype="float32")[source]
target = np.concatenate([np.zeros((32, 1), int), source[:, ::-1]], 1)
decoder_input_data = np.eye(num_tokens, dtype="float32")[target]
decoder_target_data = np.eye(num_tokens, dtype="float32")[np.concatenate([target[:, 1:], np.ones((32, 1), int)], 1)]

encoder_inputs = keras.Input(shape=(None, num_tokens))
encoder = keras.layers.LSTM(latent_dim, return_state=True)
encoder_outputs, state_h, state_c = encoder(encoder_inputs)
encoder_states = [state_h, state_c]
decoder_inputs = keras.Input(shape=(None, num_tokens))
decoder_lstm = keras.layers.LSTM(latent_dim, return_sequences=True, return_state=True)
decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=encoder_states)
decoder_dense = keras.layers.Dense(num_tokens, activation="softmax")
decoder_outputs = decoder_dense(decoder_outputs)
model = keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)
start(model)
model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    [encoder_input_data, decoder_input_data],
    decoder_target_data,
    batch_size=8,
    epochs=2,
    validation_split=0.25,
    shuffle=False,
    verbose=0,
)
model.save("s2s_model.keras")
model = keras.models.load_model("s2s_model.keras")

encoder_inputs = model.input[0]
encoder_outputs, state_h_enc, state_c_enc = model.layers[2].output
encoder_model = keras.Model(encoder_inputs, [state_h_enc, state_c_enc])
decoder_inputs = model.input[1]
decoder_state_input_h = keras.Input(shape=(latent_dim,))
decoder_state_input_c = keras.Input(shape=(latent_dim,))
decoder_states_inputs = [decoder_state_input_h, decoder_state_input_c]
decoder_lstm = model.layers[3]
decoder_outputs, state_h_dec, state_c_dec = decoder_lstm(decoder_inputs, initial_state=decoder_states_inputs)
decoder_dense = model.layers[4]
decoder_outputs = decoder_dense(decoder_outputs)
decoder_model = keras.Model([decoder_inputs] + decoder_states_inputs, [decoder_outputs, state_h_dec, state_c_dec])


def decode_sequence(input_seq):
    states_value = encoder_model.predict(input_seq, verbose=0)
    target_seq = np.zeros((1, 1, num_tokens))
    target_seq[0, 0, 0] = 1.0
    decoded = []
    while len(decoded) < length:
        output_tokens, h, c = decoder_model.predict([target_seq] + states_value, verbose=0)
        decoded.append(int(np.argmax(output_tokens[0, -1, :])))
        target_seq = np.zeros((1, 1, num_tokens))
        target_seq[0, 0, decoded[-1]] = 1.0
        states_value = [h, c]
    return decoded


results = {
    "history": history.history,
    "decoded": [decode_sequence(encoder_input_data[i : i + 1]) for i in range(3)],
    "states": encoder_model.predict(encoder_input_data[:2], verbose=0),
    "layers": [type(layer).__name__ for layer in model.layers],
}
