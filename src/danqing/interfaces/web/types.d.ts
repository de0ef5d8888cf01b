/** The resources of docs/serving.md, for `tsc --checkJs`. Nothing of this is sent to a browser. */

export interface Fault { code: string; message: string; field: string | null; fix: string | null }

export interface Job {
  id: string; app: string; inputs: Record<string, any>;
  state: "queued" | "running" | "done" | "failed" | "cancelled";
  cancelling: boolean; position: number | null; eta: number | null;
  step: number; of: number; message: string; preview: string | null; expected: number | null;
  notes: string[]; pictures: string[];
  result: { lines?: string[]; rows?: Record<string, any>[]; adapter?: { name: string; trigger: string } } | null;
  error: Fault | null; tries: number; created: string; started: string | null; finished: string | null; seconds: number | null;
}

export interface Picture {
  id: string; job: string | null; index: number; app: string; model: string; prompt: string; seed: number | null;
  width: number; height: number; format: string; bytes: number; created: string;
  star: boolean; trashed: string | null; parent: string | null; sources: string[]; children: number;
  score?: number; match?: "words" | "meaning"; file: string; thumbnail: string;
  brief?: Record<string, any>; info?: Record<string, any>;
  boards?: string[];
  again?: { app: string; inputs: Record<string, any> } | null;
}

export interface Board { id: string; name: string; created: string; count: number; cover: string | null }

export interface Upload {
  id: string; width: number; height: number; format: string; bytes: number; created: string; notes: string[];
  brief: Record<string, any> | null; picture: string | null; file: string;
}

export interface Card {
  name: string; family: string; summary: string; paper: string; year: number; licence: string;
  width: number; height: number; size_multiple: number; scale: number; steps: number; guidance: number; sampler: string;
  fast: { steps: number; guidance: number; sampler: string } | null;
  can: string[]; prompt_type: string; closed_vocabulary: boolean; styles: Record<string, string>;
}

export interface Model { id: string; warm: boolean; card: Card | null }

export interface Property {
  title: string; description: string; group: string; advanced: boolean; default?: any; type?: string; format?: string;
  enum?: any[]; examples?: any[]; minimum?: number; exclusiveMinimum?: number; maximum?: number; maxLength?: number;
  unit?: string; step?: number; items?: Property; anyOf?: Property[]; minItems?: number; maxItems?: number;
  /** Of a control: what its picture may show. */
  kinds?: string[];
}

export interface App {
  name: string; summary: string; description: string; output: string; needs: string[];
  images: string[]; positional: string[]; examples: string[];
  schema?: { properties: Record<string, Property>; required?: string[] };
}

/** What a running job shows: the step, and a preview for each of its pictures that has one. */
export interface Frame { id: string; step: number; of: number; message: string; eta: number | null; picture: number; previews: Record<number, string> }

/** One card of the wall: the pictures of a job, or a picture that no job made. */
export interface WallCard { key: string; job: string | null; pictures: string[] }

export interface Filters { q?: string; like?: string; app?: string; model?: string; star?: string; board?: string; trash?: string }

/** A picture in the prompt bar, and what it is for. */
export interface Reference { id: string; role: "image" | "style_image" }
