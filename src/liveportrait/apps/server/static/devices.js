// Camera and microphone, as far as the browser gives them.

// The device's stream. Throws an Error whose message is a sentence for the page.
export async function granted(constraints, name) {
  if (!navigator.mediaDevices) {
    throw new Error(`Browsers give the ${name} to https pages and to this computer's own alone: use one of these.`);
  }
  const sentences = {
    NotAllowedError: `The browser may not use the ${name}: allow it beside the address, then start again.`,
    NotFoundError: `There is no ${name}: plug one in, then start again.`,
    NotReadableError: `The ${name} does not answer: close other programs that use it, then start again.`,
  };
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw new Error(sentences[error.name] ?? `The ${name} cannot be used: ${error.message}`);
  }
}

export function stopTracks(media) {
  media?.getTracks().forEach((track) => track.stop());
}
