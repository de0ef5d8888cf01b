/** The chapters of the course: which model paints the figure, and what its slider changes. */

/**
 * @typedef {{name: string, year: string, paper: string, field?: string, values?: number[], fixed?: Record<string, any>, noise?: boolean, attention?: boolean}} Chapter
 * name: of the chapter and of the model.
 * field, values: what the slider changes; fixed: further inputs of its pictures.
 * attention: whether a second figure shows where the network looks for each word.
 * noise: whether the slider adds noise to the picture, as the model's schedule does.
 */

/** @type {Chapter[]} */
export const chapters = [
  { name: "gan", year: "2014", paper: "1406.2661", field: "variation", values: [0, 0.2, 0.4, 0.6, 0.8, 1], fixed: { variation_seed: 9 } },
  { name: "stylegan", year: "2018", paper: "1812.04948", field: "stylize", values: [0, 250, 500, 750, 1000], fixed: { steps: 1 } },
  { name: "ddpm", year: "2020", paper: "2006.11239", noise: true },
  { name: "dalle1", year: "2021", paper: "2102.12092" },
  { name: "disco", year: "2021", paper: "2105.05233" },
  { name: "dalle2", year: "2022", paper: "2204.06125" },
  { name: "stickers", year: "2022", paper: "2112.10752", field: "guidance", values: [1, 2, 4, 8, 16], fixed: { fast: true }, attention: true },
  { name: "imagen", year: "2022", paper: "2205.11487" },
];
