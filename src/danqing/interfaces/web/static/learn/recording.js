/** A job whose previews are kept, one behind the other, so that its steps can be played as a film. */

import { thumbnailOf } from "../api.js";
import { frames, jobs, reason, start, unfinished } from "../state.js";

/** @typedef {{onFrame: (source: string, index: number) => void, onEnd: (picture: string | null, fault: string) => void}} Listener */

/**
 * Paint one picture and keep each of its previews.
 * @param {Record<string, any>} inputs @param {Listener} listener @param {string} app
 * @returns {Promise<{films: string[], stop: () => void}>} the previews, to which the picture is added in the end
 */
export async function record(inputs, { onFrame, onEnd }, app = "paint") {
  /** @type {string[]} */
  const films = [];
  /** @type {(() => void)[]} */
  const stops = [];
  const stop = () => stops.splice(0).forEach((end) => end());
  const add = (/** @type {string} */ source) => {
    if (films.at(-1) === source) return;
    films.push(source);
    onFrame(source, films.length - 1);
  };
  try {
    const job = await start(app, inputs);
    const look = () => {
      const now = jobs.get(job.id);
      if (!now || unfinished(now)) return;
      stop();
      const [picture = null] = now.pictures;
      if (picture) add(thumbnailOf(picture));
      onEnd(picture, now.error?.message ?? "");
    };
    stops.push(frames.watch(job.id, (frame) => frame?.previews[0] && add(frame.previews[0])), jobs.watch(job.id, look));
    look();
  } catch (error) {
    onEnd(null, reason(error));
  }
  return { films, stop };
}
